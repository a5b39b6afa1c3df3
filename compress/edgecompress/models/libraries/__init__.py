"""Models that come from elsewhere: libraries, folders, files, and code of users."""
