using GpuTasks.Demo;

if (args.Length != 4)
{
    await Console.Error.WriteLineAsync("usage: GpuTasks.Demo GATEWAY_URL IMAGE RECORDINGS_FOLDER KEY_FILE, with the API key in GPUTASKS_KEY and in KEY_FILE");
    return 2;
}

var recordings = Recording.FindIn(args[2]);
if (recordings.Count == 0)
{
    await Console.Error.WriteLineAsync($"There are no spoken recordings (Front_Left.wav and so on) in {args[2]}.");
    return 2;
}

using var gateway = new Gateway(new Uri(args[0]), Environment.GetEnvironmentVariable("GPUTASKS_KEY") ?? "");
try
{
    return await Demonstration.RunAsync(gateway, args[1], recordings, CancellationToken.None) ? Report.Succeeded(args[0], args[2], args[3]) : 1;
}
catch (Exception e) when (e is HttpRequestException or GatewayException or TimeoutException)
{
    await Console.Error.WriteLineAsync($"The demonstration could not go on: {e.Message}");
    return 1;
}
