"""Pages and plots: figures and galleries as one HTML file."""
