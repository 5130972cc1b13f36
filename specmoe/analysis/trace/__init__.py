"""What a routing trace says by itself, before any policy or hardware: `job.analyze`, one study a file."""
