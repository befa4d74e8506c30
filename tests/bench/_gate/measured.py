"""What `noise.py` found on a tiny model (0.85 M parameters, 1,600 steps), 21 November 2026.

Mean and deviation of the loss differences of documents, before less after, nats per token:

| update                              | medical (new)    | encyclopedia (old) |
|-------------------------------------|------------------|--------------------|
| useful, 30 steps, two seeds         | +0.261 +- 0.091  | -0.101 +- 0.082    |
|                                     | +0.252 +- 0.099  | -0.112 +- 0.084    |
| marginal, 3 steps                   | +0.002 +- 0.001  | +0.000 +- 0.001    |
| useful but forgets, 120 steps       | +0.651 +- 0.197  | -0.347 +- 0.194    |
| the useful one, laid on twice       | -0.200 +- 0.100  | -0.539 +- 0.214    |
| learnt from shuffled tokens         | -0.346 +- 0.142  | -0.791 +- 0.226    |
| noise of the same norm              | -0.001 +- 0.003  | -0.000 +- 0.005    |

187 and 386 documents. A useful update spreads by 0.36 to 0.39 of its gain, and old text by 0.08
where it moves at all. The shapes below are quantiles in steps of 2.5 %, in deviations from the
mean: kurtosis 9.8 and 7.4, skew 1.8 and 0.7. Such an update, learnt without replay, would be
refused for its damage; of one learnt with replay the streams keep the deviation, not the mean.
"""

NEW_TAILS = (
    -1.94,
    -1.51,
    -1.33,
    -1.17,
    -1.08,
    -0.94,
    -0.88,
    -0.82,
    -0.74,
    -0.68,
    -0.61,
    -0.52,
    -0.47,
    -0.46,
    -0.45,
    -0.36,
    -0.34,
    -0.3,
    -0.25,
    -0.21,
    -0.12,
    -0.05,
    -0.01,
    0.04,
    0.12,
    0.21,
    0.26,
    0.32,
    0.35,
    0.39,
    0.44,
    0.49,
    0.62,
    0.68,
    0.81,
    0.91,
    1.03,
    1.32,
    1.4,
    1.76,
    5.5,
)
ANCHOR_TAILS = (
    -3.22,
    -1.95,
    -1.59,
    -1.32,
    -1.19,
    -1.02,
    -0.84,
    -0.78,
    -0.72,
    -0.64,
    -0.57,
    -0.52,
    -0.48,
    -0.43,
    -0.35,
    -0.31,
    -0.26,
    -0.18,
    -0.14,
    -0.09,
    -0.03,
    0.02,
    0.09,
    0.14,
    0.24,
    0.29,
    0.34,
    0.39,
    0.47,
    0.51,
    0.57,
    0.65,
    0.71,
    0.81,
    0.9,
    0.98,
    1.09,
    1.24,
    1.55,
    1.88,
    6.37,
)
