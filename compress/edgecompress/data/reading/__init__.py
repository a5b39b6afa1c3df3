"""From files and arrays as people have them to raw samples."""
