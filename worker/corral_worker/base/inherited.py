"""What a process has from whoever started it, and must not depend on."""

import resource
import signal


def mend_inherited() -> None:
    """Makes of signals and limits what a worker needs, whatever shell, script or unit it was started by.

    An ignored SIGCHLD would take away the ends of its children, and a blocked signal is never heard. SIGHUP stays as it is: nohup means it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each container is a connection, and each of its readers a few files
