"""Training the prior of neural heads on registered scans."""
