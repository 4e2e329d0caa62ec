from .data import LibraryView as LibraryView
from .data import PromptView as PromptView
from .data import view_library as view_library
from .page import Sources as Sources
from .page import page_html as page_html
from .page import page_value as page_value
from .page import progress_value as progress_value
