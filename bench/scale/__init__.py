"""How costs grow with the work: node files and workflows of growing size, and the cost of each command."""
