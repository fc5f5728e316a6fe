"""What turns an archive's export into frames: files found, worked on in processes that may die, and reported."""
