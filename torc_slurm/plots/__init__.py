"""Plots of measurements: series -> reduction -> figure dictionaries -> self-contained pages."""
