"""Where knowledge comes from: teachers that are asked in every step, and stored answers."""

from tfkd.teachers.ensemble import Ensemble
from tfkd.teachers.learning import Learning
from tfkd.teachers.source import CallableTeacher, LiveTeacher, Source
from tfkd.teachers.two_views import TwoViews

__all__ = ["CallableTeacher", "Ensemble", "Learning", "LiveTeacher", "Source", "TwoViews"]
