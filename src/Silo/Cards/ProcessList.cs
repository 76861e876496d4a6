using System.Text.RegularExpressions;

namespace GpuTasks.Cards;

/// <summary>The machine's processes, as far as their containers are concerned.</summary>
internal sealed partial class ProcessList(string proc = "/proc")
{
    /// <summary>Container of a process: its full id, empty for a process outside of any, null for one that is not there.</summary>
    public string? ContainerOf(uint pid)
    {
        try
        {
            // The control group is the kernel's own record; a process in a container cannot leave it.
            var id = ContainerId().Match(File.ReadAllText(Path.Combine(proc, pid.ToString(System.Globalization.CultureInfo.InvariantCulture), "cgroup")));
            return id.Success ? id.Value : "";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Kills a process if it still belongs to a container.</summary>
    public void KillIfIn(uint pid, string container)
    {
        if (ContainerOf(pid) != container)
        {
            return;
        }

        try
        {
            using var process = System.Diagnostics.Process.GetProcessById((int)pid);
            if (ContainerOf(pid) == container)
            {
                process.Kill();
            }
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            // It has ended by itself.
        }
    }

    [GeneratedRegex("[0-9a-f]{64}")]
    private static partial Regex ContainerId();
}
