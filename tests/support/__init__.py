"""What several tests share: small tasks, prompts, records, and the command line under test."""
