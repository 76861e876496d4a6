using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace GpuTasks.SystemTests;

/// <summary>What these tests use of the machine. <c>./test</c> provides it and says where it is.</summary>
internal static class Machine
{
    /// <summary>Endpoint of the Docker Engine.</summary>
    public static string DockerHost => Needed("GPUTASKS_TEST_DOCKER");

    /// <summary>Connection string of the PostgreSQL server.</summary>
    public static string Postgres => Needed("GPUTASKS_TEST_POSTGRES");

    /// <summary>The static relay binary.</summary>
    public static string RelayPath => Needed("GPUTASKS_RELAY");

    /// <summary>The silo's assembly.</summary>
    public static string SiloPath => Needed("GPUTASKS_SILO");

    /// <summary>Root of the checkout.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The echo image, made by <c>./test</c>.</summary>
    public const string EchoImage = "gputasks/echo:test";

    /// <summary>A TCP port that nobody listens on.</summary>
    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>Runs a program to its end.</summary>
    /// <exception cref="TimeoutException">It took longer than <paramref name="patience"/>; it is killed then.</exception>
    public static async Task<(int Code, string Output)> RunAsync(
        string program, IEnumerable<string> arguments, TimeSpan patience, string? folder = null, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true, WorkingDirectory = folder ?? Root };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        using var limit = new CancellationTokenSource(patience);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException($"{program} {string.Join(' ', arguments)} took longer than {patience}: {await output}{await error}");
        }

        return (process.ExitCode, await output + await error);
    }

    /// <summary>Runs the docker command against the tests' engine and gives back what it printed.</summary>
    public static Task<string> DockerAsync(params string[] arguments) => DockerAtAsync(DockerHost, arguments);

    /// <summary>Runs the docker command against an engine and gives back what it printed.</summary>
    public static async Task<string> DockerAtAsync(string host, params string[] arguments)
    {
        var (code, output) = await RunAsync("docker", ["-H", host, .. arguments], TimeSpan.FromMinutes(1));
        return code == 0 ? output.Trim() : throw new InvalidOperationException($"docker {string.Join(' ', arguments)}: {output}");
    }

    private static string Needed(string variable) => Environment.GetEnvironmentVariable(variable) is { Length: > 0 } value
        ? value
        : throw new InvalidOperationException($"{variable} is not set. Run ./test System.Tests, which starts what these tests need.");

    private static string FindRoot()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "Orleans.GpuTasks.sln")))
        {
            folder = folder.Parent;
        }

        return folder?.FullName ?? throw new InvalidOperationException("The checkout was not found above the tests.");
    }
}
