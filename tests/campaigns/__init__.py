"""Long runs of random inputs against oracles; a short run of each stands in the tests."""
