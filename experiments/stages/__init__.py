"""The pipeline's stages, one file each: a typed config, a version and a plain function."""
