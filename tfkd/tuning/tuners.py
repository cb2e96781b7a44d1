"""KerasTuner's tuners over the oracles here, and its chief.

Names of KerasTuner that it does not document as public stand here and in `tfkd.tuning.oracles`.
"""

import contextlib
import inspect
import time
from concurrent import futures
from pathlib import Path

import grpc
import keras_tuner
from keras_tuner.src import protos
from keras_tuner.src.distribute import oracle_chief
from keras_tuner.src.engine import tuner_utils

from tfkd.progress import Follow
from tfkd.tuning import checkpoints, oracles
from tfkd.tuning.oracles import CHECKPOINT
from tfkd.tuning.race import BEGIN, END, FOLLOWS

IDLE_SECONDS = 0.05


class _Tuner(keras_tuner.Tuner):
    """KerasTuner's tuner over one of the oracles here; takes what KerasTuner's of that name takes.

    Attributes:
        worker_timeout: seconds that a worker waits for its chief's answer.
        watcher: object with `update(now)`, told what happens, and `training(trial)`, a context
            that gives a list of callbacks for one training; or None.
    """

    oracle_class, watcher = None, None
    worker_timeout = 600.0
    keeps_best = True  # the weights of a trial's best epoch; else those of its last one

    def __init__(self, hypermodel=None, objective=None, **settings):
        kinds = self.oracle_class.__mro__[:3]
        names = {n for kind in kinds for n in inspect.signature(kind.__init__).parameters}
        own = {name: settings.pop(name) for name in names if name in settings}
        oracle = self.oracle_class(objective, **own)
        # Of what is trained in parts; a worker's own `oracle` would not tell.
        self._full_epochs = [getattr(oracle, "max_epochs", None), *oracle.race.rungs][-1]
        super().__init__(oracle, hypermodel, **settings)
        if self._is_worker():
            self.oracle.stub = _Waiting(self.oracle.stub, self)
        else:
            oracle.declare = self.hypermodel.build
            oracle.read_trials()

    def save(self):
        """Nothing: see the module."""

    def reload(self):
        """As for a new search: see the module."""
        self._populate_initial_space()

    def pre_create_trial(self):
        if self._is_worker():
            time.sleep(IDLE_SECONDS)  # KerasTuner asks without a pause while the chief has nothing

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        if self.watcher is not None:
            self.watcher.update(now=True)

    def run_trial(self, trial, *arguments, callbacks=(), **settings):
        """Trains a trial once for each execution, and keeps the best epoch's weights.

        Raises:
            keras_tuner.errors.FatalError: a file cannot be written or read; the trial is not to
                blame, and the same search may go on later.
        """
        hp, histories = trial.hyperparameters, []
        if END in hp.values:  # of Hyperband or a race
            settings["epochs"], settings["initial_epoch"] = hp.values[END], hp.values[BEGIN]
            callbacks = [*callbacks, Follow(self._full_epochs)]
        directory = Path(self.get_trial_dir(trial.trial_id))
        keeper = checkpoints.BestWeights(self.oracle.objective, directory / CHECKPOINT)
        try:
            for execution in range(self.executions_per_trial):
                model = self._build_hypermodel(hp)
                own = self._deepcopy_callbacks(list(callbacks))
                self._configure_tensorboard_dir(own, trial, execution)
                own += [tuner_utils.TunerCallback(self, trial), *([keeper] * self.keeps_best)]
                with self._watched(trial.trial_id) as shown:
                    own += shown
                    fitted = self.hypermodel.fit(hp, model, *arguments, callbacks=own, **settings)
                histories.append(fitted)
            if not self.keeps_best:
                checkpoints.write_weights(model, keeper.path)
        except OSError as error:
            raise keras_tuner.errors.FatalError(str(error)) from error
        return histories

    def _watched(self, name):
        return contextlib.nullcontext([]) if self.watcher is None else self.watcher.training(name)

    def load_model(self, trial):
        """The trial's model with the weights of its best epoch (of a race, its last one).

        Raises:
            ValueError: the checkpoint is damaged, or of another model.
        """
        model = super()._build_hypermodel(trial.hyperparameters)
        checkpoints.read_weights(model, Path(self.get_trial_dir(trial.trial_id)) / CHECKPOINT)
        return model

    def _build_hypermodel(self, hp):
        model = super()._build_hypermodel(hp)
        if hp.values.get(BEGIN):  # of Hyperband or a race
            before = hp.values[FOLLOWS]
            try:
                checkpoints.read_weights(model, Path(self.get_trial_dir(before)) / CHECKPOINT)
            except ValueError as error:
                raise keras_tuner.errors.FatalError(str(error)) from error
        return model


class RandomSearch(_Tuner):
    """`keras_tuner.RandomSearch` that begins with the defaults and goes on after any kill."""

    oracle_class = oracles.RandomSearchOracle


class BayesianOptimization(_Tuner):
    """`keras_tuner.BayesianOptimization` that begins with the defaults and goes on after a kill."""

    oracle_class = oracles.BayesianOptimizationOracle


class Hyperband(_Tuner):
    """`keras_tuner.Hyperband` that begins with the defaults and goes on after any kill."""

    oracle_class = oracles.HyperbandOracle


class GridSearch(_Tuner):
    """`keras_tuner.GridSearch` that goes on after any kill; it begins with the defaults itself."""

    oracle_class = oracles.GridSearchOracle


class SuccessiveHalving(_Tuner):
    """Random trials that race: the best third goes on for more epochs, then the best few for seeds.

    Trials are trained for a ninth of the epochs (two at least), the best third for a third of them,
    the best third of those in full; at last the best few are trained from further seeds. The first
    trial, the defaults, always goes on. Each of these trainings is a trial of KerasTuner;
    `tfkd.tuning.trials` says which follows on which.

    Takes what `keras_tuner.RandomSearch` takes, and besides:

    Args:
        max_epochs: epochs of a full training.
        finalists: how many of the best go on to the end, beside the first trial.
        seeds: how many seeds each finalist gets.
    """

    oracle_class = oracles.SuccessiveHalvingOracle
    keeps_best = False


def serve(oracle, ip, port):
    """Answers workers, KerasTuner's chief.

    Returns:
        (the gRPC server, started; the port it listens on; function () -> bool: whether a worker
        was told to stop and none is left).

    Raises:
        OSError: the address cannot be listened on.
    """
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    servicer = oracle_chief.OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        # KerasTuner knows no TLS: for private networks only.
        bound = server.add_insecure_port(f"{ip}:{port}")
    except RuntimeError as error:
        raise OSError(
            f"Cannot listen on {ip}:{port} (KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT): it is "
            "taken, or no address of this host."
        ) from error
    server.start()
    return server, bound, lambda: servicer.stop_triggered and oracle_chief.exit_chief(oracle)


class _Waiting:
    """A worker's calls to its chief, with the tuner's own timeout and not KerasTuner's hour."""

    def __init__(self, stub, tuner):
        self._stub, self._tuner = stub, tuner

    def __getattr__(self, name):
        call = getattr(self._stub, name)
        return lambda request, **how: call(
            request, **{**how, "timeout": self._tuner.worker_timeout}
        )
