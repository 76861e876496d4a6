namespace GpuTasks.SystemTests;

/// <summary>The store is restored from an earlier time, while containers run that it knows nothing of.</summary>
public sealed class RestoreTests
{
    private const string CountFile = "/.gputasks/count";

    [Fact]
    public async Task A_restored_backup_ends_no_run_starts_none_twice_and_says_what_it_did_not_know()
    {
        await using var platform = await Platform.StartAsync();
        await CreateAsync(platform, "old", gpu: true);

        // Two hold both cards, and one waits.
        await platform.Client.AcceptedAsync("old", "first", """{"mode":"sleep","seconds":8}""");
        await platform.Client.AcceptedAsync("old", "second", """{"mode":"sleep","seconds":8}""");
        await platform.Client.BegunAsync("old", "first");
        await platform.Client.BegunAsync("old", "second");
        await platform.Client.AcceptedAsync("old", "waiting", """{"mode":"sleep","seconds":20}""");
        await platform.KillAsync();
        var backup = Directory.CreateDirectory(Path.Combine(platform.Folder, "backup")).FullName;
        Copy(Path.Combine(platform.Folder, "data"), backup);

        // What the backup does not know: two ended, one runs, and a function with a run of its own came.
        await platform.StartAgainAsync();
        await platform.Client.UntilAsync("old", "first");
        await platform.Client.UntilAsync("old", "second");
        await platform.Client.BegunAsync("old", "waiting");
        await CreateAsync(platform, "young", gpu: false);
        await platform.Client.AcceptedAsync("young", "unknown", """{"mode":"sleep","seconds":15}""");
        await platform.Client.BegunAsync("young", "unknown");
        await platform.KillAsync();
        Copy(backup, Path.Combine(platform.Folder, "data"));
        await platform.StartAgainAsync();

        // The run that the store took for waiting is taken up, and runs once.
        Assert.Equal("Succeeded", (await platform.Client.UntilAsync("old", "waiting")).Status);

        // Those whose answers are gone with the store run again.
        Assert.Equal("Succeeded", (await platform.Client.UntilAsync("old", "first")).Status);
        Assert.Equal("Succeeded", (await platform.Client.UntilAsync("old", "second")).Status);

        // The run of the function that the store has never heard of went to its end, and its answer is kept on the node.
        var kept = Path.Combine(platform.Folder, "data", "node", "unclaimed", "1000000000000001", "young", "unknown.1.json");
        await Eventually.ComesAsync("the answer that nobody asks for", TimeSpan.FromMinutes(1), () => Task.FromResult(File.Exists(kept)), there => there);
        using var operators = new Client(platform.Client.Address, Platform.OperatorKey);
        await Eventually.ComesAsync("the word to the operator", TimeSpan.FromMinutes(1), async () => (await operators.SendAsync(HttpMethod.Get, "/v1/nodes")).Text,
            text => text.Contains("set back to an earlier time", StringComparison.Ordinal) && text.Contains("unclaimed", StringComparison.Ordinal));
        Assert.Single(Counted(platform), line => line.StartsWith("waiting ", StringComparison.Ordinal));
        Assert.Equal(2, Counted(platform).Count(line => line.StartsWith("first ", StringComparison.Ordinal)));
    }

    private static Task CreateAsync(Platform platform, string function, bool gpu) => platform.Client.CreateEchoAsync(
        function, environment: [("COUNT_FILE", CountFile)], change: definition =>
        {
            definition["cpu"] = gpu ? 0.5 : 0.1;
            definition["idleTimeout"] = 600;
            if (!gpu)
            {
                definition.Remove("gpuConfig");
            }
        });

    /// <summary>The files of the store; nobody has them open.</summary>
    private static void Copy(string from, string to)
    {
        foreach (var old in Directory.EnumerateFiles(to, "*.db*"))
        {
            File.Delete(old);
        }

        foreach (var file in Directory.EnumerateFiles(from, "*.db*"))
        {
            File.Copy(file, Path.Combine(to, Path.GetFileName(file)));
        }
    }

    private static string[] Counted(Platform platform) => [.. platform.InstanceFolders()
        .Select(folder => Path.Combine(folder, "box", "count"))
        .Where(File.Exists)
        .SelectMany(File.ReadAllLines)
        .Order(StringComparer.Ordinal)];
}
