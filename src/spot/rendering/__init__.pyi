from .html import render as render
from .html import table_text as table_text
