"""The command `spot`, also as `python -m spot`."""

from spot.cli.start import main

if __name__ == "__main__":
    main()
