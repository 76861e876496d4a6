using System.Globalization;

namespace GpuTasks.Containers;

/// <summary>Facts of the machine.</summary>
internal static class Machine
{
    /// <summary>Changes at each boot.</summary>
    public static string BootId() => File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim();

    /// <summary>All memory of the machine.</summary>
    public static int MemoryMiB()
    {
        foreach (var line in File.ReadLines("/proc/meminfo"))
        {
            if (line.StartsWith("MemTotal:", StringComparison.Ordinal)
                && long.TryParse(line.AsSpan(9).Trim().TrimEnd("kB").Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var kibibytes))
            {
                return (int)(kibibytes / 1_024);
            }
        }

        throw new InvalidOperationException("/proc/meminfo has no MemTotal line.");
    }

    /// <summary>What is free on the file system of a folder.</summary>
    public static int FreeDiskMiB(string folder) =>
        (int)Math.Min(int.MaxValue, new DriveInfo(folder).AvailableFreeSpace >> 20);
}
