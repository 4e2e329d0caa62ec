"""Fuzzers with seeds: what strangers may bring is mutated and read; each failure is printed as JSON.

python -m tests.campaigns.prompts --trials 1000 --seed 1
"""
