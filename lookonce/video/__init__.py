"""Moving pictures: files, cameras and streams as frames, and frames as files. Needs PyAV (the extra `video`)."""
