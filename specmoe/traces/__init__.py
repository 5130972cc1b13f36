"""What was routed: schema, storage, collection, pretraining, import and synthesis of traces."""
