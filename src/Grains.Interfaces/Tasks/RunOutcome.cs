namespace GpuTasks.Tasks;

/// <summary>How one attempt ended. The class decides about a retry; numbers never change.</summary>
public enum RunOutcome
{
    /// <summary>The function answered with success.</summary>
    Succeeded = 0,

    /// <summary>The function answered with a failure (contract section 5). Counts as an attempt.</summary>
    FunctionError = 1,

    /// <summary>The run passed its time limit and was ended. Counts as an attempt.</summary>
    TimedOut = 2,

    /// <summary>The function's process ended or closed the connection without an answer. Counts as an attempt.</summary>
    Crashed = 3,

    /// <summary>The function was killed for using more than its memory. Counts as an attempt.</summary>
    HostOutOfMemory = 4,

    /// <summary>The function ran out of GPU memory. Counts as an attempt.</summary>
    GpuOutOfMemory = 5,

    /// <summary>The card failed under the run. The platform's fault.</summary>
    GpuFault = 6,

    /// <summary>The image cannot be had or started. Counts as an attempt: trying elsewhere seldom helps.</summary>
    ImageError = 7,

    /// <summary>The web server never listened, or the initializer failed. Counts as an attempt.</summary>
    InitializerError = 8,

    /// <summary>The node is proved gone and its runs with it. The platform's fault.</summary>
    NodeLost = 9,

    /// <summary>The container engine failed. The platform's fault.</summary>
    EngineError = 10,

    /// <summary>The run was taken off its card for the platform's own reasons. The platform's fault.</summary>
    Preempted = 11,

    /// <summary>The run was ended because somebody asked for it.</summary>
    Cancelled = 12,
}
