"""Settings of a server: where it listens, and what it takes at most."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ServeSettings(BaseModel):
    """What `serve.toml` and the options of `spot serve` may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    library: str = Field(default="packaged", description="Folder of the prompts, or `packaged`.")
    prompt: tuple[str, ...] = Field(
        default=(), description="Prompt files or folders of runs that are served in the place of a library."
    )
    backbone: str = Field(default="", description="The frozen model; empty: the one that the library's prompts name.")
    study: tuple[Path, ...] = Field(default=(), description="Studies that the page shows: TOML files or folders.")
    transfer: tuple[Path, ...] | None = Field(
        default=None, description="Folders of transfers that the page shows; left out: those in the cache."
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on; any but this machine's needs a token.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    token_file: Path | None = Field(default=None, description="File whose first line is the token that requests bear.")
    engine: str = Field(default="local", pattern="^(local|vllm)$", description="`local` or `vllm`.")
    upstream: tuple[str, ...] = Field(default=(), description="Addresses of the vLLM servers.")
    dtype: str | None = Field(default=None, description="Precision of the weights.")
    quantise: Literal["4bit", "8bit"] | None = Field(
        default=None, description="Bits of the linear layers of the model in this process; needs bitsandbytes."
    )
    max_body_bytes: int = Field(default=4_000_000, ge=1, description="Most bytes of a request.")
    max_rows: int = Field(default=1_000, ge=1, description="Most rows of a request.")
    max_request_tokens: int = Field(default=100_000, ge=1, description="Most input tokens of a request.")
    max_new_tokens: int = Field(default=1_024, ge=1, description="Most tokens that a request may have generated a row.")
    max_waiting_rows: int = Field(default=4_000, ge=1, description="Rows that may wait; one more is answered 429.")
    batch_tokens: int = Field(default=2_048, ge=1, description="Padded input tokens of one forward pass.")
    max_streams: int = Field(default=16, ge=1, description="Rows that generate at a time.")
    wait_ms: float = Field(default=2.0, ge=0, le=1000, description="How long a row may wait for others, milliseconds.")
    prefix_bytes: int = Field(default=200_000_000, ge=0, description="Most bytes of prompts' states kept in memory.")
    timeout_s: float = Field(default=60.0, gt=0, description="Longest time of a request, seconds.")
    refresh_s: float = Field(default=2.0, gt=0, description="How often the library's folder is looked at, seconds.")
