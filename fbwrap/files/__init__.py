"""Files: others' weights, read as data and downloaded within limits; one's own, written whole; what a picture is."""
