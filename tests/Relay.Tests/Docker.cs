using System.Diagnostics;

namespace GpuTasks.Relay.Tests;

/// <summary>The docker command on the engine that <c>GPUTASKS_TEST_DOCKER</c> names, and the static binaries beside <c>GPUTASKS_RELAY</c>.</summary>
internal static class Docker
{
    private static readonly SemaphoreSlim Building = new(1);
    private static string? image;

    private static string? Host => Environment.GetEnvironmentVariable("GPUTASKS_TEST_DOCKER") is { Length: > 0 } host ? host : null;

    /// <summary>Skips the test where there is no engine or no static binary; <c>./test</c> provides both.</summary>
    internal static void Need() => Assert.SkipWhen(
        Host is null || RelayUnderTest.StaticRelayPath is null, "GPUTASKS_TEST_DOCKER (an engine) and GPUTASKS_RELAY (the static binary) are not both set.");

    /// <summary>Id of an image with the echo example and nothing else.</summary>
    internal static async Task<string> EchoImageAsync()
    {
        await Building.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            if (image is null)
            {
                var context = Directory.CreateTempSubdirectory("gputasks-echo-").FullName;
                File.Copy(Path.Combine(Path.GetDirectoryName(RelayUnderTest.StaticRelayPath)!, "echo"), Path.Combine(context, "echo"));
                await File.WriteAllTextAsync(
                    Path.Combine(context, "Dockerfile"), "FROM scratch\nCOPY echo /echo\nENTRYPOINT [\"/echo\"]\n", TestContext.Current.CancellationToken);
                image = await RunAsync("build", "-q", context);
                Directory.Delete(context, recursive: true);
            }

            return image;
        }
        finally
        {
            Building.Release();
        }
    }

    /// <summary>What the command printed; throws with its complaint when it failed.</summary>
    internal static async Task<string> RunAsync(params string[] arguments)
    {
        var start = new ProcessStartInfo("docker", ["-H", Host!, .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true };
        // The builder that every engine has; images here need nothing newer.
        start.Environment["DOCKER_BUILDKIT"] = "0";
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(Deadline.Token);
        var errors = process.StandardError.ReadToEndAsync(Deadline.Token);
        await process.WaitForExitAsync(Deadline.Token);
        Assert.True(process.ExitCode == 0, $"docker {string.Join(' ', arguments)}: {await errors}");
        return (await output).Trim();
    }
}
