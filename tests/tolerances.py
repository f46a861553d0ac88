"""Every numerical tolerance of the tests, each with its reason."""

MODULES: dict[str, float] = {}
"""Network against reference in float32: `torch.testing.assert_close`'s own defaults."""

ENGINE = 1e-5
"""Logits of the packed, cached engine against the plain path in float32: other summation orders
of the same products, a few units in the last place a layer."""

PATCHES = 1e-6
"""Normalised pixels against the reference processor: one rounding of a float32 division."""

BF16_LOGIT = 0.06
"""Logits of order 1 to 4 have steps of 1/128 to 1/64 in bfloat16; a few of these over the layers."""

INT8_LOGIT = 0.006
"""Keys and values of a document in int8 against float32, in logits that spread by 0.3 to 0.4 over the
documents of a tiny random network: rounding to 1/254 of a key channel's range and 1/127 of a token's
largest value. Over three networks the largest was 0.0044, the mean 0.0017. Keys with one scale a
token, the other usual way, are off by up to 0.0085."""

INT8_PRODUCT = 3e-7
"""Of the largest output: a linear map of bytes against its integers in float64. Sums are exact, two
scales and a bias round three times."""

INT8_LINEAR = 0.015
"""Of the largest output: a linear map in int8 against the same in float64, random rows and weights.
Two roundings to 1/127 of a largest number; at m0's sizes see `off` in benchmarks/results/linear.json."""

INT8_STEPS = 0.01
"""Logits of an int8 model by two ways of summing its attention: where a number lies between two steps
of 1/127, its last bit decides for one of them, and what follows differs by a step. Found between plain and
fused attention of tiny networks: 3e-5 on a Xeon, 0.005 with images on an EPYC, where the last bits differ;
between arrangements of the engine at most 2e-7.
Deeper networks spread it: nano's logits of pages differ by up to 0.026, as much as int8 is off at all."""

INT8_MODEL_LOGIT = 0.05
"""Logits of an int8 model against float32, which spread by 0.3 to 0.4 over the documents of a tiny random
network. Over three networks the largest was 0.024, the mean 0.008."""

BF16_ROUNDING = 2**-8
"""Of the largest number: half a step of bfloat16, what is left when all is computed in float32."""

BF16_ATTENTION = 2**-6
"""The same when the weights of attention are rounded to bfloat16 too: a few steps."""

BF16_SUMS = 2e-4
"""Logarithms of sums of exponentials, in float32 in either form; largest found 6e-5."""

GRADIENT = 2e-5
"""Of the largest gradient of a tensor, in float32: sums over other orders, as for `ENGINE`."""
