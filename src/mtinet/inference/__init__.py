"""From a prepared study to lesions: forward passes, components, the predictor."""
