"""What all packages use: errors, units, text, configuration, and which process and which step this is."""
