"""The one class of errors that stand for a mistake the user can mend."""


class UserError(ValueError):
    """Says what was wrong, what was expected and the fix.

    The command line prints its message and exits with status 2, without a traceback. What the
    user's own code raises comes out as it is; the command line says in which line, and exits with
    status 1. Any other error is a fault of this library, and keeps its traceback.

    These errors have a name of their own, for those who mend them in a program. Each is made of
    its message alone, and stands in `recurrent_rl`; those of agents in `recurrent_rl.agents` too:

    - `SettingError`: a setting or argument, by its name, type or value
    - `UnsupportedSpaceError`: a space for which there is no encoder or no action head
    - `ObservationError`: an observation or reward that is not what was declared, or not finite
    - `ActionMaskError`: an action mask that does not fit, or allows nothing
    - `MemoryInputError`: an input or state of a wrong shape, type or device
    - `SecondDerivativeError`: a second derivative, of a kernel that has none
    - `DeviceError`: a device that is not there
    - `PolicyFileError`: a policy or checkpoint that is missing, damaged, newer or of another kind
    - `ExportError`: a policy that cannot be exported like this, or an export that differs from it
    - `NonFiniteError`: NaN or infinity in weights, which are not saved, or in an update
    - `FileWriteError`: a file that cannot be written
    - `FaultyEnvironmentError`: an environment in which `check_env` has found faults
    - `RunHeldError`: a run that another process is training
    - `RaisedError`: an error that the user's own code raised in another worker
    - `ToldError`: of several workers' mistakes one that the first worker tells, in the others
    """
