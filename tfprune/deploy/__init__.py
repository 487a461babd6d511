"""The file that ships: calibrated, converted, loaded and compared before it is handed over."""
