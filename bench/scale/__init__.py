"""How cost grows with the work: node files and workflows of growing size, and what each command takes for them."""
