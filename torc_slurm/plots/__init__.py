"""Pictures of what was measured: series -> reduction -> figure dictionaries -> self-contained pages."""
