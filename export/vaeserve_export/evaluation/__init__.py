"""What a trained model is worth: likelihoods, posterior statistics, faults, pages."""
