using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;

namespace GpuTasks.Benchmarks.Platform;

/// <summary>A part of the benchmark in a process of its own, ended with it.</summary>
internal sealed class Child : IDisposable
{
    private readonly Process process;

    private Child(Process process, Uri url)
    {
        this.process = process;
        Url = url;
    }

    public Uri Url { get; }

    /// <summary>Starts this program again as a part of the benchmark.</summary>
    public static Task<Child> StartAsync(params string[] arguments) => LaunchAsync(Environment.ProcessPath!, "listening ", arguments);

    /// <summary>Starts a program and waits for the line that tells its address.</summary>
    public static async Task<Child> LaunchAsync(string program, string sign, params string[] arguments)
    {
        var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true })!;
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (await process.StandardOutput.ReadLineAsync(limit.Token) is { } line)
        {
            if (line.StartsWith(sign, StringComparison.Ordinal))
            {
                // Its output is read to the end, or it would block on a full pipe.
                _ = process.StandardOutput.ReadToEndAsync(CancellationToken.None);
                return new Child(process, new Uri(line[sign.Length..]));
            }
        }

        throw new InvalidOperationException($"{arguments[0]} ended with exit code {process.ExitCode} before it listened.");
    }

    public void Dispose()
    {
        process.Kill();
        process.WaitForExit();
        process.Dispose();
    }

    /// <summary>Runs a tool to its end and gives its output.</summary>
    public static async Task<string> OutputAsync(string tool, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(tool, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var errors = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"{tool} failed: {await errors}{output}");
    }
}

/// <summary>The load generator wrk.</summary>
internal static partial class Wrk
{
    /// <returns>Answers of status 2xx in a second.</returns>
    public static async Task<double> PostAsync(Uri url, string script, int connections, int seconds)
    {
        var output = await Child.OutputAsync("wrk", "-t1", "--timeout", "30s", $"-c{connections}", $"-d{seconds}s", "-s", script, url.ToString());
        if (Bad().IsMatch(output))
        {
            throw new InvalidOperationException($"Requests failed: {output}");
        }

        return double.Parse(Rate().Match(output).Groups[1].Value, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex(@"Requests/sec:\s+([0-9.]+)")]
    private static partial Regex Rate();

    [GeneratedRegex("Non-2xx|Socket errors")]
    private static partial Regex Bad();
}
