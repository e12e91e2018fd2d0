"""`sparc-analyze bias`: latents, and pairs of latents, that go with an attribute."""
