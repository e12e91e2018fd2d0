import numpy as np

from sparc.analyze.codes.decode import decode


def test_codes_are_decoded_by_the_targets_decoder(model, random_codes, dense):
    latents, names = model.config.latents, model.config.names
    codes = random_codes(1, rows=7, latents=latents, k=model.config.k, streams=names)
    target = names[1]
    decoder, bias = (
        getattr(model, name)[target].detach().numpy() for name in ("decoder", "pre_bias")
    )
    expected = dense(codes, names[0], latents) @ decoder + bias
    np.testing.assert_allclose(
        decode(model, codes, names[0], target), expected, rtol=1e-4, atol=1e-5
    )
