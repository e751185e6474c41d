"""Tools: functions that a model may call, and the loop that runs them."""

from __future__ import annotations

from lamella_middlewares.tools._function_tool import FunctionTool, tool
from lamella_middlewares.tools._middleware import Tools
from lamella_middlewares.tools._told import ToolContext, ToolFailed

__all__ = ("FunctionTool", "ToolContext", "ToolFailed", "Tools", "tool")
