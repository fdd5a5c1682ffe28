"""What is fitted in latent space after training, and travels in the bundle."""
