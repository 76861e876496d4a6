using System.Runtime.InteropServices;

namespace GpuTasks.Echo;

/// <summary>The few system calls that .NET does not offer.</summary>
internal static partial class Native
{
    [LibraryImport("libc", EntryPoint = "getuid")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    internal static partial uint UserId();

    [LibraryImport("libc", EntryPoint = "kill")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    internal static partial int Kill(int pid, int signal);

    /// <summary>Ends the process at once, without running anything of it again.</summary>
    [LibraryImport("libc", EntryPoint = "_exit")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    internal static partial void ExitNow(int code);
}
