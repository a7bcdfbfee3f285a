"""From studies to training samples: normalisation, preparation, augmentation, datasets, folds."""
