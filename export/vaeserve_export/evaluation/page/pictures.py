"""Pictures of the model's size, laid out in one PNG inside the page."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

_SMALLEST = 48  # screen pixels that a picture should have


def strip(pictures: Tensor, description: str, columns: int | None = None) -> str:
    """An image element that shows pictures in rows.

    Args:
        pictures: [rows, 1 or 3, height, width], clipped to [0, 1].
        description: for those who do not see it.
        columns: pictures in a row; all of them by default.
    """
    count, _, height, width = pictures.shape
    columns = columns or count
    rows = -(-count // columns)
    gap = max(1, round(width / 14))
    levels = (pictures.clamp(0, 1) * 255).round().byte().numpy().transpose(0, 2, 3, 1)
    # The gaps are transparent, so that they have the colour of the page.
    sheet: npt.NDArray[np.uint8] = np.zeros(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8
    )
    for number, picture in enumerate(levels):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width, :3] = picture
        sheet[top : top + height, left : left + width, 3] = 255
    content = io.BytesIO()
    Image.fromarray(sheet).save(content, "PNG", optimize=True)
    shown = sheet.shape[1] * max(1, -(-_SMALLEST // width))
    data = base64.b64encode(content.getvalue()).decode()
    return (
        f'<img src="data:image/png;base64,{data}" alt="{description}" '
        f'style="width: min(100%, {shown}px)">'
    )
