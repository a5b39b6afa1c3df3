"""What is told before anything is trained."""
