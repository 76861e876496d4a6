namespace GpuTasks.Cards.Nvml;

/// <summary>What a call of the driver library answers. Only codes that lead to something different are named.</summary>
internal enum NvmlReturn
{
    Success = 0,
    Uninitialized = 1,
    InvalidArgument = 2,
    NotSupported = 3,
    NoPermission = 4,
    NotFound = 6,
    InsufficientSize = 7,
    DriverNotLoaded = 9,
    Timeout = 10,
    LibraryNotFound = 12,
    FunctionNotFound = 13,
    GpuIsLost = 15,
    ResetRequired = 16,
    OperatingSystem = 17,
    LibraryMismatch = 18,
    InUse = 19,
    ArgumentVersionMismatch = 25,
    Unknown = 999,
}

/// <summary>The codes in the words of an operator.</summary>
internal static class NvmlReturns
{
    /// <summary>Why a whole node has no cards.</summary>
    public static string NodeFact(NvmlReturn code) => code switch
    {
        NvmlReturn.LibraryNotFound => "The driver's library is not installed: this node has no cards.",
        NvmlReturn.DriverNotLoaded => "The driver is not loaded: this node has no cards until it is. It is tried again by itself.",
        NvmlReturn.LibraryMismatch => "The driver was changed under its library: restart the machine or load the matching driver. No card takes new work until then.",
        NvmlReturn.NoPermission => "The agent may not speak to the driver: its user needs access to /dev/nvidiactl.",
        NvmlReturn.OperatingSystem => "The operating system keeps the agent from the driver: its control group needs access to /dev/nvidiactl.",
        NvmlReturn.FunctionNotFound => "The library lacks a function that every supported driver has: the driver is too old.",
        NvmlReturn.Timeout => "The driver does not answer.",
        _ => $"The driver answers with error {(int)code}.",
    };

    /// <summary>What a code about one card means.</summary>
    public static string CardFact(NvmlReturn code) => code switch
    {
        NvmlReturn.GpuIsLost => "fallen off the bus; the machine must be restarted",
        NvmlReturn.ResetRequired => "needs a reset before it can be used again",
        NvmlReturn.NoPermission or NvmlReturn.OperatingSystem => "the agent may not open it",
        _ => $"the driver answers with error {(int)code}",
    };
}
