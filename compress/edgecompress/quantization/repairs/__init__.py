"""What makes a twin lose less: ranges, weights and types that are changed before it is written."""
