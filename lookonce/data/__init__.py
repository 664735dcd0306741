"""Pictures and truths: datasets in the forms that people keep them. Knows no network."""
