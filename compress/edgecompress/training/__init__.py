"""One training loop for every stage, its schedules, and the teacher's stored outputs."""
