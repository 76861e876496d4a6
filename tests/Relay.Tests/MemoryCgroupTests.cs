namespace GpuTasks.Relay.Tests;

public sealed class MemoryCgroupTests
{
    [Fact]
    public void Both_versions_are_read_and_none_is_zero()
    {
        var root = Directory.CreateTempSubdirectory("gputasks-cgroup-").FullName;
        var memory = new MemoryCgroup(root);
        Assert.Equal((0, 0), (memory.OomKills(), memory.PeakBytes()));

        Directory.CreateDirectory(Path.Combine(root, "memory"));
        File.WriteAllText(Path.Combine(root, "memory", "memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        File.WriteAllText(Path.Combine(root, "memory", "memory.max_usage_in_bytes"), "1048576\n");
        Assert.Equal((3, 1_048_576), (memory.OomKills(), memory.PeakBytes()));

        File.WriteAllText(Path.Combine(root, "memory.events"), "low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 0\n");
        File.WriteAllText(Path.Combine(root, "memory.peak"), "2097152\n");
        Assert.Equal((2, 2_097_152), (memory.OomKills(), memory.PeakBytes()));
        Directory.Delete(root, recursive: true);
    }
}
