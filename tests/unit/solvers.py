"""Samplers of a few lines: sample(model, x, sigmas) with model(x, sigma) -> denoised."""

from itertools import pairwise


def euler(model, x, sigmas):
    for sigma, following in pairwise(sigmas):
        x = x + (following - sigma) * slope(model, x, sigma)
    return x


def two_step(model, x, sigmas):
    """Adams-Bashforth for equal strides: 3/2 of the newest slope less 1/2 of the one before."""
    return looking_back(model, x, sigmas, [[1], [3 / 2, -1 / 2]])


def three_step(model, x, sigmas):
    return looking_back(model, x, sigmas, [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12]])


def looking_back(model, x, sigmas, shares):
    slopes = []
    for sigma, following in pairwise(sigmas):
        slopes.append(slope(model, x, sigma))
        newest_first = zip(
            shares[min(len(slopes), len(shares)) - 1], reversed(slopes), strict=False
        )
        x = x + (following - sigma) * sum(share * slope for share, slope in newest_first)
    return x


def heun(model, x, sigmas):
    for sigma, following in pairwise(sigmas):
        first = slope(model, x, sigma)
        second = slope(model, x + (following - sigma) * first, following) if following else first
        x = x + (following - sigma) * (first + second) / 2
    return x


def dpm_2(model, x, sigmas):
    for sigma, following in pairwise(sigmas):
        half = slope(model, x, sigma)
        if following:
            half = slope(model, x + (following - sigma) / 2 * half, (sigma + following) / 2)
        x = x + (following - sigma) * half
    return x


def slope(model, x, sigma):
    return (x - model(x, x.new_full((len(x),), sigma))) / sigma
