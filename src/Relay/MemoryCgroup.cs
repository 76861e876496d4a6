using System.Globalization;

namespace GpuTasks.Relay;

/// <summary>What the container's memory cgroup counts, in version 1 or 2; zeros where there is none.</summary>
internal sealed class MemoryCgroup(string root = "/sys/fs/cgroup")
{
    /// <summary>Processes killed here for want of memory, since the container began.</summary>
    internal long OomKills() =>
        Field(Path.Combine(root, "memory.events"), "oom_kill") ?? Field(Path.Combine(root, "memory", "memory.oom_control"), "oom_kill") ?? 0;

    /// <summary>Highest use since the container began, in bytes.</summary>
    internal long PeakBytes() =>
        Number(Path.Combine(root, "memory.peak")) ?? Number(Path.Combine(root, "memory", "memory.max_usage_in_bytes")) ?? 0;

    private static long? Field(string path, string name)
    {
        foreach (var line in Read(path).Split('\n'))
        {
            if (line.StartsWith(name + " ", StringComparison.Ordinal))
            {
                return Parse(line[(name.Length + 1)..]);
            }
        }

        return null;
    }

    private static long? Number(string path) => Parse(Read(path));

    private static long? Parse(string text) =>
        long.TryParse(text.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value : null;

    private static string Read(string path)
    {
        // Asked for each run; an exception for each file that this version does not have would cost more than the run.
        if (!File.Exists(path))
        {
            return "";
        }

        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
