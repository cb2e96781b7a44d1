"""What a user may say of a run: flags, TOML and Python from one declaration. No TensorFlow here."""

from tfkd.settings.base import Settings, SettingsError
from tfkd.settings.cache import CacheSettings
from tfkd.settings.chain import ChainSettings
from tfkd.settings.compare import CompareSettings
from tfkd.settings.distill import DistillSettings
from tfkd.settings.export import ExportSettings
from tfkd.settings.recipe import RecipeSettings
from tfkd.settings.search import SearchSettings
from tfkd.settings.training import DataSettings, TrainingSettings
from tfkd.settings.workers import WorkerSettings

__all__ = [
    "CacheSettings",
    "ChainSettings",
    "CompareSettings",
    "DataSettings",
    "DistillSettings",
    "ExportSettings",
    "RecipeSettings",
    "SearchSettings",
    "Settings",
    "SettingsError",
    "TrainingSettings",
    "WorkerSettings",
]
