"""What a user has who installs the wheel, and nothing of this checkout."""
